"""What must hold: at each step, at each answer, over a whole history. Knows no fault."""

"""The corridor: carries values between order, meaning and the four doors; decides nothing itself."""

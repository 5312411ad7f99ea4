"""Every schedule of a small world of consensus cores. Knows no cluster, store or clock."""

"""The paper's published results, and the tables that replicate its own."""

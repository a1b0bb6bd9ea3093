"""What a contract pays: pure functions on arrays, no tables, no venue rules."""

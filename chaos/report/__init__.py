"""What a drill found, for the terminal, for programs and for people."""

"""What is done about attempts that agents have: a second one, another queue, or making room."""

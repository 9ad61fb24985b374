"""What each command does, by the thing that it is about."""

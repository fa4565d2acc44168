"""Rules to try tickcast with, and to read before writing one's own."""

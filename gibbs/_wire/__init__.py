"""What is said: the messages between hub and worker, as bytes. Used by both sides; light imports only."""

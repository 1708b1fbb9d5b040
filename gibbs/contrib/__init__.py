"""What connects gibbs with others. Each module imports what it is named after, and none is imported by `gibbs` itself."""

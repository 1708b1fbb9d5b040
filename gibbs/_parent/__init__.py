"""How the hub acts: processes, streams, deadlines. With `_hub`, the only room that waits."""

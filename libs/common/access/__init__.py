"""Who calls, and what that may."""

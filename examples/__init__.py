"""Small stories to run: each folder or file is one. README.md in this folder says what they show."""

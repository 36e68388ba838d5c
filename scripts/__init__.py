"""The commands of this repository: `scripts/<verb>` starts `scripts.lib.<verb>`."""

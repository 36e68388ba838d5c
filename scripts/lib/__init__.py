"""The typed Python behind `scripts/<verb>`: one module for each verb, and what several verbs share."""

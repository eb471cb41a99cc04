"""The offline planner: answers without a model provider, behind the same Chat Completions protocol."""

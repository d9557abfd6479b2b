"""Trains the default embedder of forumqa: prepare, tokenizer, teacher, train, evaluate, export."""

"""Outcomes of batch calls: receives a voice-AI provider's webhooks and turns them into exact figures per batch."""

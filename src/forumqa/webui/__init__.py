"""The web page: a chat beside the sources it quotes.

Gradio looks up its own servers when it is imported, and its client reports to a hub; both are
switched off here, before the import, because nothing about a question may leave the machine.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from .server import create_app, serve

__all__ = ["create_app", "serve"]

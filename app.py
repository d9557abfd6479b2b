"""The chat over `corpus/`, at http://127.0.0.1:7860: `python app.py` or `gradio app.py`."""

from forumqa import ForumQA
from forumqa.webui import serve

if __name__ == "__main__":
    serve(ForumQA())

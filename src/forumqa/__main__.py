"""``python -m forumqa`` and the ``forumqa`` command."""

from forumqa.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

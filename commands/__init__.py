"""The commands of the command line, a module each.

A new command is one file in ``theory`` or ``study``: ``parser.py`` finds it there.  It has

- ``PURPOSE``, one line for the help, and ``EXAMPLES``, command lines without the program's name;
- ``add_arguments(parser)``, the command's own options: ``options.py`` has those that recur;
- ``run(arguments, session) -> Answer``: check the request by building its spec, then
  ``session.prepare_out()``, then the work.

A command computes and lays out; it prints nothing and writes none of its own tables and pictures.
cli.py shows, writes and lists what the ``Answer`` holds.  A command asks the doors ``theory``,
``empirical`` and ``figures`` for what it needs (``theory.gains(spec)``): they load a name when it is
first used, so that ``--help`` and a mistyped option answer at once.  ``terminal.py`` has what the
process is given: its streams, and how much they can show.
"""

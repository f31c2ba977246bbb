"""The commands of the command line, a module each.

A new command is one module here and its name in ``COMMANDS`` of cli.py.  The module has

- ``PURPOSE``, one line for the help, and ``EXAMPLES``, command lines without the program's name;
- ``add_arguments(parser)``, the command's own options: ``options.py`` has those that recur;
- ``run(arguments, session) -> Answer``: check the request by building its spec, then
  ``session.prepare_out()``, then the work.

A command computes and lays out; it prints nothing and writes none of its own tables and pictures.
cli.py shows, writes and lists what the ``Answer`` holds.  Everything heavy (torch, numpy, pandas,
scipy, matplotlib, and our modules that import them) is imported inside the functions, so that
``--help`` and a mistyped option answer at once.
"""

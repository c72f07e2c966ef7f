"""Commands against a running proxy: they ask the API of its admin port, and show what it says.

Nothing of the proxy itself is imported here, and rich only where a table is drawn: whoever types a command,
or the TAB key, does not wait for what only a server needs.
"""

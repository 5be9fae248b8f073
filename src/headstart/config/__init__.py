"""Settings, their aliases from other tools, and their resolution."""

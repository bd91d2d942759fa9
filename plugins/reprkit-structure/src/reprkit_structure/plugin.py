"""Registration of reprkit-structure's parts: hooks and strings; a part's module is imported when it is first built."""

reprkit_api = 1  # version of the plugin interface

"""What reprkit-text offers to reprkit: hooks and strings; a part's own module is imported when it is first built."""

reprkit_api = 1  # the plugin interface that this is written for

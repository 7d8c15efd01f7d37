"""The library of `cpp` as stages over shards: configuration, plan, runner and command line."""

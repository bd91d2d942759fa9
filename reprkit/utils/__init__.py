"""What every room may use: files that appear whole, the cache, sums over processes, modes, precision."""

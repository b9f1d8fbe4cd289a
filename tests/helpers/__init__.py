"""What several tests need: browsers, servers, small data sets, wrong answers."""

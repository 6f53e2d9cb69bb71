"""What several test files share: videos, bundles, archives, servers. Production code never imports it."""

"""What is put around real processes so that they can be hurt: proxies, namespaces, small disks, false
clocks."""

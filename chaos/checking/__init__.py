"""What became of a run, judged. Pure but for the clients' work (`workloads`) and the files of histories."""

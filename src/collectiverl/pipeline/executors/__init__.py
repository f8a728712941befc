"""Where the stages of a run are done: in processes here, on a Ray cluster, or as jobs of Slurm."""

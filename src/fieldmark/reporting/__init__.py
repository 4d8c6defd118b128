"""Reports: what a run says about itself, as one page that needs nothing else."""

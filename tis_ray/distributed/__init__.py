"""The only room that imports Ray: clusters, actors, trials, training, jobs."""

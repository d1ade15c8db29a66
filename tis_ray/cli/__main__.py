"""`python -m tis_ray.cli`: the same as the installed program `tis-ray`."""

from tis_ray.cli import main

if __name__ == "__main__":
    main()

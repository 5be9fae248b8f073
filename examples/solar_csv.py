"""Write `solar.csv` (image, label, group) for the solar-cell images of the pip package `elpv-dataset`.

    pip install elpv-dataset
    python examples/solar_csv.py
    headstart train solar.csv --allow-external-paths

The images are licensed CC BY-NC-SA 4.0: not for commercial use.
"""

from pathlib import Path

from headstart.api.demo import LICENSE, write_solar_csv

if __name__ == "__main__":
    count = write_solar_csv(Path("solar.csv"))
    print(f"solar.csv: {count} images of solar cells; {LICENSE}")

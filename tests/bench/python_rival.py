"""What the races against Python packages share; python_rival.sh installs those."""
import statistics
import time


def median_seconds(run, seconds, fewest):
    """Of run(), once to warm up and then for `seconds`, `fewest` times at least."""
    run()
    taken, start = [], time.perf_counter()
    while len(taken) < fewest or time.perf_counter() - start < seconds:
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)

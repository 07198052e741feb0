# Sourced by the races whose rival is a Python package, in the project's root: `enter_rival NAME "PACKAGES" ARGUMENTS...`.
# Sets `python` to the one of --work (by default a folder of NAME), where it installs the packages from PyPI; --help prints the head.
enter_rival() {
  local work=${TMPDIR:-/tmp}/vernier_$1 packages=$2 i next
  shift 2
  [ "${1:-}" != --help ] || { sed -n '2,8s/^# \{0,1\}//p' "tests/bench/${0##*/}"; exit 0; }
  for ((i = 1; i < $#; ++i)); do
    [ "${!i}" != --work ] || { next=$((i + 1)); work=${!next}; }
  done
  python=$work/bin/python
  [ -x "$python" ] || {
    python3 -m venv "$work"
    # shellcheck disable=SC2086 # words
    "$work/bin/pip" install --quiet $packages
  }
}

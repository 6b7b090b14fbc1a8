#!/bin/sh
# Put the checkout at extern/tracked/vidur into an environment of its own: from git's objects, so
# that the checkout stays as it is, and neither the checkout nor its folder is ever imported.
set -eu
checkout=$1 venv=$2
if [ ! -e "$checkout/.git" ]; then
  echo "$checkout: no checkout: run this in a git clone, with a network, by 'make vidur-upstream'" >&2
  exit 1
fi
if [ -n "$(git -C "$checkout" status --porcelain)" ]; then
  echo "$checkout has local changes: 'git -C $checkout stash -u', then 'make vidur-upstream'" >&2
  exit 1
fi
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
python=$venv/bin/python
git -C "$checkout" archive --format=tar HEAD requirements.txt | tar -xO > "$venv/requirements.txt"
"$python" -m pip --disable-pip-version-check install -r "$venv/requirements.txt"
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Its setup.py finds no packages: the top one has no __init__.py. Its data is read from the folder
# that it runs in.
rm -rf "$site/vidur" "$venv/vidur-data" "$venv/vidur-commit"
mkdir -p "$venv/vidur-data"
git -C "$checkout" archive --format=tar HEAD vidur | tar -x -C "$site"
if git -C "$checkout" cat-file -e HEAD:data 2>/dev/null; then
  git -C "$checkout" archive --format=tar HEAD data | tar -x -C "$venv/vidur-data"
fi
# From another folder than the checkout's, so that it is the installed one.
(cd "$venv" && bin/python -c 'import vidur.main')
git -C "$checkout" rev-parse HEAD > "$venv/vidur-commit"
echo "Vidur $(cut -c1-12 "$venv/vidur-commit") is in $venv"

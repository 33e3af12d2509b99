"""Builds the wheel with what Python itself has: the package, and libfastq beside it where it has been built. Nothing is fetched."""
import base64
import hashlib
import os
import re
import sysconfig
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.path.join(HERE, "..", "..", "..", "artifacts", "lib", "libfastq.so.1")


def _project():
    with open(os.path.join(HERE, "pyproject.toml"), encoding="utf-8") as file:
        return dict(re.findall(r'^(name|version|description|requires-python) = "(.*)"$', file.read(), re.MULTILINE))


def _contents():
    for name in sorted(os.listdir(os.path.join(HERE, "fastq"))):
        if name.endswith((".py", ".typed")):
            yield f"fastq/{name}", os.path.join(HERE, "fastq", name)
    if os.path.exists(LIBRARY):
        yield "fastq/libfastq.so.1", LIBRARY


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    project = _project()
    has_library = os.path.exists(LIBRARY)
    tag = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}" if has_library else "py3-none-any"
    info = f"{project['name']}-{project['version']}.dist-info"
    file_name = f"{project['name']}-{project['version']}-{tag}.whl"
    files = {name: open(path, "rb").read() for name, path in _contents()}
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\nSummary: {project['description']}\n"
        f"License: Apache-2.0\nRequires-Python: {project['requires-python']}\n"
    ).encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: fastq\nRoot-Is-Purelib: {'false' if has_library else 'true'}\nTag: {tag}\n".encode()
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    with zipfile.ZipFile(os.path.join(wheel_directory, file_name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return file_name


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("install from the folder: pip install ./native/bindings/python")

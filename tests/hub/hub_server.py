"""A small Hub on 127.0.0.1 for the real client, and how a job is run against it.

It keeps repositories with files, LFS, commits, branches and tags in memory, and notes every request.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
SIGNED = r"(?P<name>[\w.-]+/[\w.-]+)"  # in addresses that need no token, as those of a storage behind the Hub
ROUTES = []


def run(job, folder, hub, **environment):
    """One process with the real client, as somebody would start it; standard output and errors."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    base |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    base |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(job)), str(folder)],
        env={**base, **environment},
        stdin=subprocess.DEVNULL,  # a question about remote code would end here
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@dataclass
class File:
    content: bytes
    lfs: bool

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self):
        """Git's name of the blob; of an LFS file that of its content, as the client compares it."""
        return self.sha256 if self.lfs else hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    private: bool
    branches: dict = field(default_factory=dict)  # name -> commit
    tags: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)  # commit -> {path: File}
    messages: list = field(default_factory=list)

    def commit(self, files, message, branch):
        oid = hashlib.sha1(f"{message} {len(self.commits)}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.messages.append(message)
        return oid

    def resolve(self, revision):
        revision = unquote(revision)
        return (
            self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)
        )


@dataclass
class Request:
    """What the client asked: `content` is a JSON body, the lines of a commit, or the number of bytes of a file."""

    method: str
    path: str
    query: dict
    user: str | None
    content: object = None
    status: int = 0


def route(method, pattern):
    def add(function):
        ROUTES.append((method, re.compile(pattern), function.__name__))
        return function

    return add


class Handler(BaseHTTPRequestHandler):
    """One request; `self.server.hub` is the `HubServer`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _serve(self):
        hub, parts = self.server.hub, urlsplit(self.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.request_ = Request(self.command, unquote(parts.path), parse_qs(parts.query), hub.tokens.get(token))
        with hub.lock:
            hub.requests.append(self.request_)
        for method, pattern, name in ROUTES:
            found = pattern.fullmatch(parts.path)
            if found and method in (self.command, "GET" if self.command == "HEAD" else ""):
                groups = found.groupdict()
                if "repo" in groups:
                    self.name = groups.pop("repo")
                    self.repository = hub.repositories.get(self.name)
                    hidden = self.repository is not None and self.repository.private and not self.request_.user
                    if self.repository is None or hidden:
                        # What the Hub says to hide whether a private repository exists.
                        return self._fail(401, "RepoNotFound", "Repository not found")
                return getattr(self, name)(**groups)
        self._fail(404, "EntryNotFound", f"no route for {self.command} {parts.path}")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    # --- answers ---

    def _answer(self, status, body=b"", kind="application/json", **headers):
        self.request_.status = status
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, values, status=200):
        self._answer(status, json.dumps(values).encode())

    def _fail(self, status, code, message, **headers):
        length = int(self.headers.get("Content-Length") or 0)
        if length and self.request_.content is None:
            self.rfile.read(length)
        self._answer(
            status, json.dumps({"error": message}).encode(), X_Error_Code=code, X_Error_Message=message, **headers
        )

    def _body(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(length)
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _read_json(self):
        self.request_.content = json.loads(self._body() or b"null")
        return self.request_.content

    def _may_write(self):
        if self.request_.user is None:
            self._fail(401, "", "Invalid username or password.")
        elif self.name.partition("/")[0] != self.request_.user:
            self._fail(403, "", "You may not write here.")
        else:
            return True
        return False

    def _files(self, revision):
        oid = self.repository.resolve(revision)
        if oid is None:
            self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid, self.repository.commits.get(oid)

    # --- repositories ---

    @route("GET", "/api/whoami-v2")
    def whoami(self):
        if self.request_.user is None:
            return self._fail(401, "", "Invalid user token.")
        self._json({"type": "user", "name": self.request_.user, "orgs": [], "auth": {}})

    @route("POST", "/api/repos/create")
    def create_repository(self):
        values, hub = self._read_json(), self.server.hub
        owner = values.get("organization") or self.request_.user
        self.name = f"{owner}/{values['name']}"
        if not self._may_write():
            return
        if self.name in hub.repositories:
            return self._json({"error": "You already created this model repo", "url": f"{hub.url}/{self.name}"}, 409)
        private = values.get("visibility") == "private" or values.get("private") is True
        hub.repositories[self.name] = repository = Repository(private)
        repository.commit({".gitattributes": File(b"*.safetensors filter=lfs\n", False)}, "initial commit", "main")
        self._json({"url": f"{hub.url}/{self.name}", "name": self.name, "id": self.name})

    @route("GET", rf"/api/models/{REPO}(?:/revision/(?P<revision>[^/]+))?")
    def model_info(self, revision=None):
        oid, files = self._files(revision or "main")
        if files is not None:
            siblings = [{"rfilename": name} for name in sorted(files)]
            private = self.repository.private
            self._json({"id": self.name, "modelId": self.name, "sha": oid, "private": private, "siblings": siblings})

    @route("GET", rf"/api/models/{REPO}/refs")
    def refs(self):
        known = {"branches": self.repository.branches, "tags": self.repository.tags}
        lists = {
            kind: [{"name": name, "ref": f"refs/{name}", "targetCommit": oid} for name, oid in names.items()]
            for kind, names in known.items()
        }
        self._json({**lists, "converts": []})

    @route("GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
    def tree(self, revision, folder=None):
        _, files = self._files(revision)
        if files is None:
            return
        inside = {
            name: file for name, file in files.items() if folder is None or name.startswith(f"{unquote(folder)}/")
        }
        if folder is not None and not inside:
            return self._fail(404, "EntryNotFound", "Entry not found")
        self._json(
            [
                {"type": "file", "path": name, "size": len(file.content), "oid": file.oid}
                | ({"lfs": {"oid": file.sha256, "size": len(file.content), "pointerSize": 130}} if file.lfs else {})
                for name, file in sorted(inside.items())
            ]
        )

    @route("POST", rf"/api/models/{REPO}/(?P<kind>branch|tag)/(?P<name>[^/]+)")
    def create_ref(self, kind, name):
        values = self._read_json() or {}
        if not self._may_write():
            return
        # A branch is named in the address, a tag in the body; the other one is where it starts.
        name, start = (values["tag"], name) if kind == "tag" else (name, values.get("startingPoint", "main"))
        known = self.repository.tags if kind == "tag" else self.repository.branches
        if unquote(name) in known:
            return self._fail(409, "", f"Reference already exists: {name}")
        oid, _ = self._files(start)
        if oid is not None:
            known[unquote(name)] = oid
            self._json({}, 201)

    # --- uploads ---

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self):
        metadata = yaml.safe_load(self._read_json()["content"].split("---\n")[1])
        empty = [name for name, value in metadata.items() if value in (None, "", [])]
        errors = [{"message": f'"{name}" must not be empty'} for name in empty]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    @route("POST", rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)")
    def preupload(self, revision):
        asked = self._read_json()["files"]
        if not self._may_write():
            return
        _, files = self._files(revision)
        if files is not None:
            answers = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".png")) else "regular",
                    "shouldIgnore": False,
                    "oid": files[file["path"]].oid if file["path"] in files else None,
                }
                for file in asked
            ]
            self._json({"files": answers})

    @route("POST", rf"/{REPO}\.git/info/lfs/objects/batch")
    def lfs_batch(self):
        values, hub = self._read_json(), self.server.hub
        if not self._may_write():
            return
        objects = []
        for wanted in values["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in hub.stored:
                place = f"{hub.url}/lfs/{self.name}/{wanted['oid']}"
                answer["actions"] = {"upload": {"href": place}, "verify": {"href": f"{place}/verify"}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    @route("PUT", rf"/lfs/{SIGNED}/(?P<oid>\w+)")
    def lfs_upload(self, name, oid):
        hub, length = self.server.hub, int(self.headers["Content-Length"])
        if hub.cuts(name, oid):
            self.rfile.read(length // 2)
            self.request_.content = length // 2
            self.close_connection = True
            self.connection.close()
            return
        content = self._body()
        self.request_.content = len(content)
        hub.stored[oid] = content
        self._answer(200)

    @route("POST", rf"/lfs/{SIGNED}/(?P<oid>\w+)/verify")
    def lfs_verify(self, name, oid):
        self._read_json()
        content = self.server.hub.stored.get(oid, b"")
        right = hashlib.sha256(content).hexdigest() == oid
        self._json({"message": "" if right else "wrong content"}, 200 if right else 422)

    @route("POST", rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)")
    def commit(self, revision):
        lines = [json.loads(line) for line in self._body().splitlines()]
        self.request_.content = lines
        if not self._may_write():
            return
        _, old = self._files(revision)
        if old is None:
            return
        files, hub = dict(old), self.server.hub
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in hub.stored:
                    return self._fail(400, "", f"LFS object {value['oid']} was never uploaded")
                files[value["path"]] = File(hub.stored[value["oid"]], True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        branch, answer = unquote(revision), {}
        if "create_pr" in self.request_.query:
            number = sum(name.startswith("refs/pr/") for name in self.repository.branches) + 1
            branch = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{hub.url}/{self.name}/discussions/{number}"
        oid = self.repository.commit(files, lines[0]["value"]["summary"], branch)
        self._json({"commitUrl": f"{hub.url}/{self.name}/commit/{oid}", "commitOid": oid, **answer})

    # --- downloads ---

    @route("GET", rf"(?:/spaces)?/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, revision, path):
        oid, files = self._files(revision)
        if files is None:
            return
        file = files.get(unquote(path))
        if file is None:
            return self._fail(404, "EntryNotFound", "Entry not found", X_Repo_Commit=oid)
        headers = {"ETag": f'"{file.oid}"', "X_Repo_Commit": oid}
        if file.lfs:
            headers |= {"X_Linked_ETag": f'"{file.sha256}"', "X_Linked_Size": str(len(file.content))}
        self._answer(200, file.content, kind="application/octet-stream", **headers)


class HubServer:
    """The Hub at `url` while the block runs.

    `tokens` says which token is whose, `requests` what was asked, `repositories` what is there. `cut["user/name"] = n`
    breaks off n uploads of the first LFS object that comes for it, half-way.
    """

    def __init__(self, **tokens):
        self.tokens = {token: user for user, token in tokens.items()}
        self.requests, self.repositories, self.stored = [], {}, {}
        self.cut, self.cut_objects, self.lock = {}, {}, threading.Lock()

    def __enter__(self):
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads, self.http.hub = True, self
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def cuts(self, name, oid):
        """Whether this upload breaks off."""
        with self.lock:
            if self.cut.get(name, 0) > 0 and self.cut_objects.setdefault(name, oid) == oid:
                self.cut[name] -= 1
                return True
        return False

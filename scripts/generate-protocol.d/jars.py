"""Kafka's jars: fetched once through Maven, read as zip files."""
import json
import os
import pathlib
import subprocess
import zipfile

KAFKA = "4.3.1"
GROUP = "org.apache.kafka"
ARTIFACTS = [
    "kafka-clients", "kafka-group-coordinator", "kafka-group-coordinator-api", "kafka-transaction-coordinator",
    "kafka-share-coordinator", "kafka-metadata", "kafka-raft", "kafka-server-common", "kafka-storage",
]

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>corelane</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>%s</dependencies>
</project>
"""
DEPENDENCY = "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>"


def folder():
    """The folder with the jars and all that they need, filled on first use."""
    cache = pathlib.Path(os.environ.get("CORELANE_CACHE") or pathlib.Path.home() / ".cache" / "corelane")
    target = cache / f"kafka-protocol-jars-{KAFKA}"
    if (target / "complete").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    pom = target / "pom.xml"
    pom.write_text(POM % "".join(DEPENDENCY % (GROUP, artifact, KAFKA) for artifact in ARTIFACTS))
    subprocess.run(
        ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={target}"], check=True)
    (target / "complete").touch()
    return target


def classpath(jars):
    return ":".join(sorted(str(jar) for jar in jars.glob("*.jar")))


def schemas(jars, artifact, prefix):
    """The schemas of one jar: (path inside the jar, parsed JSON), by name."""
    found = []
    with zipfile.ZipFile(jars / f"{artifact}-{KAFKA}.jar") as jar:
        for path in sorted(jar.namelist()):
            if path.startswith(prefix) and path.endswith(".json"):
                lines = jar.read(path).decode().splitlines()
                text = "\n".join(line for line in lines if not line.lstrip().startswith("//"))
                found.append((path, json.loads(text)))
    return found


def errors(jars):
    """Kafka's error codes: (code, name, retriable)."""
    source = os.path.join(os.path.dirname(__file__), "ListErrors.java")
    out = subprocess.run(
        ["java", "-cp", classpath(jars), source], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    rows = [line.split("\t") for line in out.stdout.decode().splitlines()]
    return [(int(code), name, retriable == "true") for code, name, retriable in rows]

#!/usr/bin/env python3
"""Renders the Helm chart with the template engine and functions that Helm uses, and holds it to the kustomize base.

The renderer is helm_render.go, built here; Debian packages golang-go and golang-github-masterminds-sprig-dev.
"""
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml

from manifests_test import CORE, ROOT, VERNIERD, VERSIONS, kubernetes_validate, named, render, renders, restricted

try:
    import jsonschema
except ImportError:
    jsonschema = None

CHART = ROOT / "deploy/helm/vernier"
SPRIG = Path("/usr/share/gocode/src/github.com/Masterminds/sprig")
EVERYTHING = {"replicas": 3, "rollout": "Recreate", "tls": {"secret": "vernier-tls"}, "podDisruptionBudget": {"enabled": True},
              "networkPolicy": {"enabled": True}, "podMonitor": {"enabled": True},
              "resources": {"cpu": "8", "memory": "32Gi", "gpu": 1}, "shutdown": {"preStopSeconds": 5, "drainSeconds": 30},
              "startup": {"budgetSeconds": 100}, "image": {"repository": "r/v", "tag": "1", "pullPolicy": "Always"},
              "model": {"claim": "c"}, "config": {"model": {"path": "/models/m", "name": "m"}, "variants": [{"name": "nf4"}]}}


def values(changes=None):
    out = yaml.safe_load((CHART / "values.yaml").read_text())
    for key, value in (changes or {}).items():
        out[key] = value
    return out


def comparable(found):
    """An object without what the two tools add by themselves: labels, hashes in names, the checksum, the default pull policy."""
    found = copy.deepcopy(found)
    found["metadata"].pop("labels", None)
    found["metadata"]["name"] = re.sub(r"-[a-z0-9]{10}$", "", found["metadata"]["name"])
    if found["kind"] == "ConfigMap":
        found["data"] = {name: yaml.safe_load(text) for name, text in found["data"].items()}
    if found["kind"] == "Deployment":
        found["spec"]["template"]["metadata"].pop("annotations", None)
        pod = found["spec"]["template"]["spec"]
        for container in pod["containers"]:
            container.pop("imagePullPolicy", None)
        pod["volumes"].sort(key=lambda volume: volume["name"])
        for volume in pod["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["name"] = re.sub(r"-[a-z0-9]{10}$", "", volume["configMap"]["name"])
    return found


@unittest.skipUnless(shutil.which("go") and SPRIG.exists(), "no Go with sprig to render the chart")
class ChartTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.renderer = Path(cls.folder.name) / "helm_render"
        environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "-p=2",
                       "GOCACHE": str(ROOT / "build/go")}
        subprocess.run(["go", "build", "-o", cls.renderer, Path(__file__).with_name("helm_render.go")], check=True, env=environment)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def render(self, changes=None):
        path = Path(self.folder.name) / "values.json"
        path.write_text(json.dumps(values(changes)))
        done = subprocess.run([self.renderer, CHART, path], capture_output=True, text=True)
        if done.returncode != 0:
            raise ValueError(done.stderr)
        return [o for o in yaml.safe_load_all(done.stdout) if o]

    @unittest.skipUnless(renders(), "no kubectl to render the base with")
    def test_the_defaults_are_the_base(self):
        def by_name(objects):
            return {(o["kind"], o["metadata"]["name"]): o for o in map(comparable, objects)}
        chart, base = by_name(self.render()), by_name(render(ROOT / "deploy/kustomize/base"))
        self.assertEqual(set(chart), set(base))
        for key in base:
            with self.subTest(key):
                self.assertEqual(chart[key], base[key])

    @unittest.skipIf(kubernetes_validate is None, "no Python package kubernetes-validate")
    def test_objects_are_valid_and_restricted(self):
        for changes in ({}, EVERYTHING):
            objects = self.render(changes)
            for found in objects:
                for version in VERSIONS if found["apiVersion"] in CORE else []:
                    kubernetes_validate.validate(found, version, strict=True)
            self.assertEqual(restricted(named(objects, "Deployment")[0]["spec"]["template"]["spec"]), [])

    def test_every_value_is_seen_in_what_is_rendered(self):
        objects = self.render(EVERYTHING)
        self.assertEqual({o["kind"] for o in objects}, {"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor",
                                                        "Service", "ServiceAccount"})
        deployment = named(objects, "Deployment")[0]["spec"]
        pod = deployment["template"]["spec"]
        container = pod["containers"][0]
        self.assertEqual(deployment["replicas"], 3)
        self.assertEqual(deployment["strategy"], {"type": "Recreate"})
        self.assertEqual(container["image"], "r/v:1")
        self.assertEqual(container["imagePullPolicy"], "Always")
        self.assertEqual(container["resources"]["limits"], {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"})
        self.assertEqual(pod["terminationGracePeriodSeconds"], 5 + 30 + 20)
        self.assertEqual(container["startupProbe"]["failureThreshold"], 50)
        self.assertEqual(next(v for v in pod["volumes"] if v["name"] == "model")["persistentVolumeClaim"]["claimName"], "c")
        self.assertEqual(next(v for v in pod["volumes"] if v["name"] == "tls")["secret"]["secretName"], "vernier-tls")
        self.assertEqual(named(objects, "Service")[0]["spec"]["ports"][0]["appProtocol"], "https")

    def assert_deployment_is_that_of(self, chart, component):
        with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
            (Path(folder) / "kustomization.yaml").write_text(json.dumps({"resources": ["../../deploy/kustomize/base"],
                                                                         "components": [f"../../deploy/kustomize/components/{component}"]}))
            base = render(Path(folder))
        self.assertEqual(*(comparable(named(objects, "Deployment")[0]) for objects in (chart, base)))

    @unittest.skipUnless(renders(), "no kubectl to render the component with")
    def test_a_claim_for_experiments_is_the_component(self):
        chart = self.render({"experiments": {"claim": "vernier-experiments"}, "rollout": "Recreate"})
        self.assert_deployment_is_that_of(chart, "experiments")

    @unittest.skipUnless(renders(), "no kubectl to render the component with")
    def test_a_seccomp_profile_is_the_component(self):
        chart = self.render({"seccomp": {"localhostProfile": "vernierd.json"}})
        self.assert_deployment_is_that_of(chart, "seccomp")
        self.assertEqual(restricted(named(chart, "Deployment")[0]["spec"]["template"]["spec"]), [])

    def test_a_claim_for_experiments_is_one_pods(self):
        for wrong in ({"rollout": "RollingUpdate"}, {"rollout": "Recreate", "replicas": 2}):
            with self.assertRaisesRegex(ValueError, "experiments.claim needs replicas 1"):
                self.render({"experiments": {"claim": "c"}, **wrong})

    def test_another_configuration_is_another_pod(self):
        def checksum(changes):
            return named(self.render(changes), "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        self.assertNotEqual(checksum({}), checksum({"config": EVERYTHING["config"]}))

    def test_a_budget_for_one_replica_is_refused(self):
        with self.assertRaisesRegex(ValueError, "needs replicas of at least 2"):
            self.render({"podDisruptionBudget": {"enabled": True}})

    def test_the_daemon_accepts_its_configuration(self):
        for changes in ({}, EVERYTHING):
            config = next(c for c in named(self.render(changes), "ConfigMap") if "vernierd.yaml" in c["data"])
            path = Path(self.folder.name) / "vernierd.yaml"
            path.write_text(config["data"]["vernierd.yaml"])
            done = subprocess.run([VERNIERD, "--config", path, "--check-config"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)


@unittest.skipIf(jsonschema is None, "no Python package jsonschema")
class SchemaTest(unittest.TestCase):
    schema = json.loads((CHART / "values.schema.json").read_text())

    def test_good_values_pass(self):
        for changes in ({}, EVERYTHING):
            jsonschema.validate(values(changes), self.schema)

    def test_bad_values_do_not(self):
        for changes in ({"replicas": 0}, {"colour": "red"}, {"image": {"repository": "v", "tag": "latest"}}, {"model": {"hostPath": "/"}},
                        {"shutdown": {"preStopSeconds": 10}}, {"rollout": "Fast"},
                        {"config": {"model": {}, "variants": [{"name": "nf4"}], "listen": "0.0.0.0:1"}},
                        {"config": {"model": {}, "variants": []}}):
            with self.subTest(changes):
                with self.assertRaises(jsonschema.ValidationError):
                    jsonschema.validate(values(changes), self.schema)


if __name__ == "__main__":
    sys.argv[:] = sys.argv[:1] + ["-v"]
    unittest.main()

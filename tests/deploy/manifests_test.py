#!/usr/bin/env python3
"""Renders every kustomize overlay and checks what comes out, without a cluster.

Core objects are validated strictly against the schemas of two Kubernetes versions (package kubernetes-validate); those of others
(Prometheus operator, KEDA, Gateway API) have no schema here and are only looked at. Pod security "restricted", probes, shutdown
and selectors are checked by rules of ours, and each vernierd.yaml by `vernierd --check-config`.
"""
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

try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = sorted(p.parent for p in (ROOT / "deploy/kustomize/overlays").glob("*/kustomization.yaml"))
VERSIONS = ["1.33.0", "1.36.0"]
CORE = ("v1", "apps/v1", "policy/v1", "networking.k8s.io/v1")
VERNIERD = Path(os.environ.get("VERNIER_BIN", ROOT / "build/release/bin")) / "vernierd"


def render(overlay):
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{overlay.name}: {done.stderr}")
    return [o for o in yaml.safe_load_all(done.stdout) if o]


def renders():
    """Kustomize components came with kubectl 1.21."""
    if shutil.which("kubectl") is None:
        return False
    out = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True).stdout
    found = re.search(r'"minor": "(\d+)', out)
    return found is not None and int(found.group(1)) >= 21


def named(objects, kind):
    return [o for o in objects if o["kind"] == kind]


def matches(selector, labels):
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


def restricted(pod):
    """What of Pod Security Standards "restricted" a pod's spec breaks, and of ours: read-only root, no host path, no token."""
    breaches = []
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or security.get("runAsUser", 0) == 0:
        breaches.append("runs as root")
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        breaches.append("no seccomp profile")
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        breaches.append("shares a namespace of the host")
    if pod.get("automountServiceAccountToken") is not False:
        breaches.append("mounts a token")
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod.get("volumes", []):
        if set(volume) - {"name"} - allowed:
            breaches.append(f"volume {volume['name']}")
    for container in pod["containers"] + pod.get("initContainers", []):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            breaches.append("may gain privileges")
        if "ALL" not in own.get("capabilities", {}).get("drop", []) or own["capabilities"].get("add"):
            breaches.append("has capabilities")
        if not own.get("readOnlyRootFilesystem"):
            breaches.append("writable root")
        if container.get("resources", {}).get("limits") != container.get("resources", {}).get("requests"):
            breaches.append("limits differ from requests")
        if "limits" not in container.get("resources", {}):
            breaches.append("no limits")
    return breaches


@unittest.skipUnless(renders(), "no kubectl of 1.21 or later to render with")
class OverlayTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.overlays = {o.name: render(o) for o in OVERLAYS}

    def each(self, kind):
        """Each object of `kind`, with all objects of its overlay; there is at least one."""
        found = [(objects, one) for objects in self.overlays.values() for one in named(objects, kind)]
        self.assertTrue(found, kind)
        return found

    def test_there_are_overlays(self):
        self.assertEqual(set(self.overlays), {"dev-cpu", "single-gpu", "multi-variant", "ab-canary"})

    @unittest.skipIf(kubernetes_validate is None, "no Python package kubernetes-validate")
    def test_core_objects_are_valid_in_two_versions(self):
        checked = 0
        for overlay, objects in self.overlays.items():
            for found in objects:
                if found["apiVersion"] not in CORE:
                    continue
                for version in VERSIONS:
                    with self.subTest(overlay=overlay, kind=found["kind"], version=version):
                        kubernetes_validate.validate(found, version, strict=True)
                        checked += 1
        self.assertGreaterEqual(checked, 40)

    def test_pods_are_restricted(self):
        for _, deployment in self.each("Deployment"):
            self.assertEqual(restricted(deployment["spec"]["template"]["spec"]), [])

    def test_probes_are_native_and_on_the_health_port(self):
        for _, deployment in self.each("Deployment"):
            container = deployment["spec"]["template"]["spec"]["containers"][0]
            for probe, service in (("startupProbe", "readiness"), ("readinessProbe", "readiness"), ("livenessProbe", "liveness")):
                self.assertEqual(container[probe]["grpc"], {"port": 50052, "service": service})

    def test_grace_is_the_sum_of_what_shutdown_takes(self):
        for objects, deployment in self.each("Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            pre_stop = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            drain = yaml.safe_load(self.config_of(objects, pod))["drain_seconds"]
            self.assertEqual(pod["terminationGracePeriodSeconds"], pre_stop + drain + 20)

    def test_selectors_find_the_pods(self):
        for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "InferencePool"):
            for objects, found in self.each(kind):
                spec = found["spec"]
                selector = spec.get("selector") or spec.get("podSelector")
                selector = selector.get("matchLabels", selector)
                pods = [d["spec"]["template"]["metadata"]["labels"] for d in named(objects, "Deployment")]
                self.assertTrue(any(matches(selector, labels) for labels in pods), selector)

    def test_names_that_objects_refer_to_exist(self):
        for objects, deployment in self.each("Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            self.assertIn(pod["serviceAccountName"], [a["metadata"]["name"] for a in named(objects, "ServiceAccount")])
            self.config_of(objects, pod)
        for objects, route in self.each("GRPCRoute"):
            services = [s["metadata"]["name"] for s in named(objects, "Service")]
            for rule in route["spec"]["rules"]:
                for backend in rule["backendRefs"]:
                    self.assertIn(backend["name"], services)
        for objects, scaled in self.each("ScaledObject"):
            self.assertIn(scaled["spec"]["scaleTargetRef"]["name"], [d["metadata"]["name"] for d in named(objects, "Deployment")])

    def test_a_policy_lets_nothing_out(self):
        for _, policy in self.each("NetworkPolicy"):
            self.assertEqual(policy["spec"]["egress"], [])
            self.assertEqual(set(policy["spec"]["policyTypes"]), {"Ingress", "Egress"})

    def test_disruption_budgets_have_replicas_to_spare(self):
        for objects, _ in self.each("PodDisruptionBudget"):
            self.assertTrue(any(d["spec"]["replicas"] > 1 for d in named(objects, "Deployment")))

    def test_the_daemon_accepts_its_configuration(self):
        self.assertTrue(VERNIERD.exists(), VERNIERD)
        for objects, deployment in self.each("Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(self.config_of(objects, pod))
                file.flush()
                done = subprocess.run([VERNIERD, "--config", file.name, "--check-config"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_ports_of_the_configuration_are_those_of_the_container(self):
        for objects, deployment in self.each("Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            config = yaml.safe_load(self.config_of(objects, pod))
            ports = {p["name"]: p["containerPort"] for p in pod["containers"][0]["ports"]}
            for name, key in (("grpc", "listen"), ("health", "health"), ("metrics", "http")):
                self.assertEqual(config[key], f"0.0.0.0:{ports[name]}")

    def test_experiments_have_a_folder_that_can_be_written(self):
        kept = 0
        for objects, deployment in self.each("Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            folder = yaml.safe_load(self.config_of(objects, pod)).get("experiments", {}).get("folder", "/var/lib/vernier")
            mount = next(m for m in pod["containers"][0]["volumeMounts"] if (folder + "/").startswith(m["mountPath"] + "/"))
            self.assertFalse(mount.get("readOnly"))
            claim = next(v for v in pod["volumes"] if v["name"] == mount["name"]).get("persistentVolumeClaim")
            if claim:  # two daemons must not write it
                self.assertEqual((deployment["spec"]["replicas"], deployment["spec"]["strategy"]), (1, {"type": "Recreate"}))
                kept += 1
        self.assertEqual(kept, 1)

    def test_the_clients_service_config_is_json_with_retries(self):
        for _, config in self.each("ConfigMap"):
            if "service-config.json" not in config.get("data", {}):
                continue
            policy = json.loads(config["data"]["service-config.json"])["methodConfig"][0]["retryPolicy"]
            self.assertEqual(set(policy["retryableStatusCodes"]), {"UNAVAILABLE", "RESOURCE_EXHAUSTED"})

    def config_of(self, objects, pod):
        name = next(v["configMap"]["name"] for v in pod["volumes"] if v["name"] == "config")
        return next(c for c in named(objects, "ConfigMap") if c["metadata"]["name"] == name)["data"]["vernierd.yaml"]


class RulesTest(unittest.TestCase):
    def test_checks_of_ours_can_fail(self):
        self.assertGreaterEqual(len(restricted({"containers": [{}], "volumes": [{"name": "x", "hostPath": {}}]})), 7)
        self.assertFalse(matches({}, {"a": "b"}))
        self.assertFalse(matches({"a": "c"}, {"a": "b"}))


if __name__ == "__main__":
    sys.argv[:] = sys.argv[:1] + ["-v"]
    unittest.main()

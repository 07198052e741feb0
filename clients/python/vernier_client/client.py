"""A thin, typed client: one method a call, exceptions with field, value and limit, retries as the service config says."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Iterable, Iterator, Mapping, Optional, Sequence, Type, Union

import grpc

from .proto.google.rpc import error_details_pb2, status_pb2
from .proto.vernier.v1 import (common_pb2, evaluation_pb2, evaluation_pb2_grpc, experiments_pb2, experiments_pb2_grpc, inference_pb2,
                               inference_pb2_grpc, models_pb2, models_pb2_grpc)

# deploy/kustomize/base/client-config.yaml, which a test holds it to.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{
        "name": [{"service": "vernier.v1.Inference"}, {"service": "vernier.v1.Evaluation"}, {"service": "vernier.v1.Models"}],
        "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.2s", "maxBackoff": "5s", "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]},
    }],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
# For a name that resolves to every pod: those that are not ready are left alone.
DIRECT_SERVICE_CONFIG = {**SERVICE_CONFIG, "healthCheckConfig": {"serviceName": "readiness"}}


def _check_header(name: str, value: str) -> None:
    """gRPC's own error for what cannot be in a header repeats it, and it may be a key."""
    if value.strip(" ") != value or not all(" " <= c <= "~" for c in value):
        raise ValueError(f"{name}: must be printable ASCII without a blank at its ends")


Preference = inference_pb2.FeedbackEvent.Preference  # of an answer over another one's exposure, or a tie


@dataclass(frozen=True)
class Tls:
    """PEM texts: who is trusted, and, for a server that asks, who we are."""
    ca: bytes
    certificate: Optional[bytes] = None
    key: Optional[bytes] = None


@dataclass(frozen=True)
class Generation:
    """One answer."""
    text: str
    token_ids: Sequence[int]
    finish_reason: str  # as in the proto: "EOS", "LENGTH", ...
    served_by: common_pb2.ServedBy
    usage: common_pb2.Usage
    seed: int


class VernierError(Exception):
    """A call that failed. `field`, `value` and `limit` are set when one of the request's fields was out of range."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.field = self.value = self.limit = self.reason = ""
        self.retry_after_seconds: Optional[float] = None
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                self._read(status_pb2.Status.FromString(value))
            elif key == "grpc-retry-pushback-ms" and int(value) >= 0:
                self.retry_after_seconds = int(value) / 1000
        super().__init__(f"{self.code.name}: {error.details()}")

    def _read(self, status: status_pb2.Status) -> None:
        info = error_details_pb2.ErrorInfo()
        for detail in status.details:
            if detail.Unpack(info):
                self.reason = info.reason
                self.field, self.value, self.limit = (info.metadata.get(key, "") for key in ("field", "value", "limit"))


@dataclass
class Client:
    """A channel to one server or a proxy, or with `direct` to every address that the target's name has.

    Threads may share it; a context manager closes it. Experiments are managed on the admin listener: that takes a client of its own,
    whose target it is; `feedback` goes where answers come from.
    """
    target: str
    direct: bool = False
    tls: Optional[Tls] = None
    api_key: str = ""
    tenant: str = ""
    timeout_seconds: Optional[float] = None
    _channel: grpc.Channel = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_header("api_key", self.api_key)
        _check_header("tenant", self.tenant)
        options = [("grpc.service_config", json.dumps(DIRECT_SERVICE_CONFIG if self.direct else SERVICE_CONFIG)), ("grpc.max_receive_message_length", -1)]
        if self.tls is None:
            self._channel = grpc.insecure_channel(self.target, options)
        else:
            credentials = grpc.ssl_channel_credentials(self.tls.ca, self.tls.key, self.tls.certificate)
            self._channel = grpc.secure_channel(self.target, credentials, options)
        self._inference = inference_pb2_grpc.InferenceStub(self._channel)
        self._evaluation = evaluation_pb2_grpc.EvaluationStub(self._channel)
        self._models = models_pb2_grpc.ModelsStub(self._channel)
        self._experiments = experiments_pb2_grpc.ExperimentsStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def generate(self, prompt: str | Sequence[int] | Sequence[Mapping[str, str]], *, variant: str = "",
                 sampling: Optional[common_pb2.SamplingParams] = None, routing_key: str = "") -> Generation:
        """The answer to a text, token ids, or chat messages ({"role": ..., "content": ...}).

        Without a variant, experiments may choose one: the same one for the same `routing_key`, a session's or a user's.
        """
        reply = self._call(self._inference.Generate, self._request(prompt, variant, sampling), routing_key)
        first = reply.completions[0]
        return Generation(first.text, list(first.token_ids), common_pb2.FinishReason.Name(first.finish_reason), reply.served_by,
                          reply.usage, first.seed)

    def stream(self, prompt: str | Sequence[int] | Sequence[Mapping[str, str]], *, variant: str = "",
               sampling: Optional[common_pb2.SamplingParams] = None,
               routing_key: str = "") -> Iterator[inference_pb2.GenerateStreamResponse]:
        """The same as it is written: a `start`, `delta`s, and a `finish` for each sample. Leaving the loop cancels the call."""
        call = self._inference.GenerateStream(self._request(prompt, variant, sampling), **self._arguments(routing_key))
        try:
            yield from call
        except grpc.RpcError as error:
            raise VernierError(error) from None
        finally:
            call.cancel()

    def compare(self, prompt: str | Sequence[int] | Sequence[Mapping[str, str]], *, variants: Sequence[str] = (),
                sampling: Optional[common_pb2.SamplingParams] = None,
                mode: evaluation_pb2.CompareMode.ValueType = evaluation_pb2.BOTH) -> evaluation_pb2.CompareResponse:
        """The prompt through several variants, scored against the one of highest precision."""
        request = evaluation_pb2.CompareRequest(base=self._request(prompt, "", sampling), variants=variants, mode=mode)
        return self._call(self._evaluation.Compare, request)

    def models(self) -> Sequence[models_pb2.Model]:
        return self._call(self._models.ListModels, models_pb2.ListModelsRequest()).models

    def feedback(self, exposure_id: str, metric: str, value: Union[bool, float, str, Preference], *, source: str = "",
                 idempotency_key: str = "") -> inference_pb2.FeedbackResponse:
        """What became of one answer, named by its `served_by.exposure_id`. ValueError, with the server's reason, if it is refused."""
        event = inference_pb2.FeedbackEvent(exposure_id=exposure_id, metric=metric, source=source, idempotency_key=idempotency_key)
        if isinstance(value, bool):
            event.flag = value
        elif isinstance(value, str):
            event.text = value
        elif isinstance(value, Preference):
            event.preference.CopyFrom(value)
        else:
            event.number = value
        reply = self.send_feedback([event])
        if reply.refused:
            raise ValueError(reply.failures[0].reason if reply.failures else "refused")
        return reply

    def send_feedback(self, events: Iterable[inference_pb2.FeedbackEvent]) -> inference_pb2.FeedbackResponse:
        """Many at once. Those that were refused are counted and named in the reply, and the others are kept."""
        return self._call(self._inference.Feedback, iter(events))

    def put_experiment(self, experiment: experiments_pb2.Experiment) -> experiments_pb2.Experiment:
        """Makes it, or replaces the one of that id and version."""
        return self._call(self._experiments.Put, experiments_pb2.PutExperimentRequest(experiment=experiment))

    def experiments(self) -> Sequence[experiments_pb2.Experiment]:
        return self._call(self._experiments.List, experiments_pb2.ListExperimentsRequest()).experiments

    def experiment_report(self, experiment_id: str, *, rebuild: bool = False) -> experiments_pb2.ExperimentReport:
        """What it has shown so far. Nothing may be concluded from a report that is not `valid`."""
        return self._call(self._experiments.Get, experiments_pb2.GetExperimentRequest(id=experiment_id, rebuild=rebuild))

    def control_experiment(self, experiment_id: str, action: experiments_pb2.ControlExperimentRequest.Action.ValueType, *,
                           step: Optional[int] = None, arm: str = "", reason: str = "", force: bool = False) -> experiments_pb2.Experiment:
        """START, PAUSE, RAMP (`step`, `force`), PROMOTE (`arm`), ROLL_BACK or STOP."""
        return self._call(self._experiments.Control, experiments_pb2.ControlExperimentRequest(
            id=experiment_id, action=action, step=step, arm=arm, reason=reason, force=force))

    def explain_assignment(self, unit: str, *, tenant: str = "", prompt_tokens: int = 0) -> experiments_pb2.ExplainAssignmentResponse:
        """Which arms a routing key has, and why. Logs nothing."""
        return self._call(self._experiments.ExplainAssignment, experiments_pb2.ExplainAssignmentRequest(
            unit=unit, tenant=tenant, prompt_tokens=prompt_tokens))

    def _arguments(self, routing_key: str = "") -> dict:
        _check_header("routing_key", routing_key)
        metadata = []
        if routing_key:
            metadata.append(("x-vernier-routing-key", routing_key))
        if self.api_key:
            metadata.append(("authorization", f"Bearer {self.api_key}"))
        if self.tenant:
            metadata.append(("x-vernier-tenant", self.tenant))
        return {"timeout": self.timeout_seconds, "metadata": metadata}

    def _call(self, method, request, routing_key: str = ""):
        try:
            return method(request, **self._arguments(routing_key))
        except grpc.RpcError as error:
            raise VernierError(error) from None

    @staticmethod
    def _request(prompt, variant: str, sampling) -> inference_pb2.GenerateRequest:
        request = inference_pb2.GenerateRequest(variant=variant, sampling=sampling)
        if isinstance(prompt, str):
            request.prompt = prompt
        elif prompt and isinstance(prompt[0], int):
            request.token_ids.ids.extend(prompt)
        else:
            request.chat.messages.extend(common_pb2.ChatMessage(**message) for message in prompt)
        return request

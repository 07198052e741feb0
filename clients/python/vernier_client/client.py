"""A thin, typed client: one method a call, exceptions with field, value and limit, retries as the service config says."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Iterator, Mapping, Optional, Sequence, Type

import grpc

from .proto.google.rpc import error_details_pb2, status_pb2
from .proto.vernier.v1 import (common_pb2, evaluation_pb2, evaluation_pb2_grpc, inference_pb2, inference_pb2_grpc, models_pb2,
                               models_pb2_grpc)

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

    Threads may share it; a context manager closes it.
    """
    target: str
    direct: bool = False
    tls: Optional[Tls] = None
    api_key: str = ""
    tenant: str = ""
    timeout_seconds: Optional[float] = None
    _channel: grpc.Channel = field(init=False, repr=False)

    def __post_init__(self) -> None:
        options = [("grpc.service_config", json.dumps(DIRECT_SERVICE_CONFIG if self.direct else SERVICE_CONFIG)), ("grpc.max_receive_message_length", -1)]
        if self.tls is None:
            self._channel = grpc.insecure_channel(self.target, options)
        else:
            credentials = grpc.ssl_channel_credentials(self.tls.ca, self.tls.key, self.tls.certificate)
            self._channel = grpc.secure_channel(self.target, credentials, options)
        self._inference = inference_pb2_grpc.InferenceStub(self._channel)
        self._evaluation = evaluation_pb2_grpc.EvaluationStub(self._channel)
        self._models = models_pb2_grpc.ModelsStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def generate(self, prompt: str | Sequence[int] | Sequence[Mapping[str, str]], *, variant: str = "",
                 sampling: Optional[common_pb2.SamplingParams] = None) -> Generation:
        """The answer to a text, token ids, or chat messages ({"role": ..., "content": ...})."""
        reply = self._call(self._inference.Generate, self._request(prompt, variant, sampling))
        first = reply.completions[0]
        return Generation(first.text, list(first.token_ids), common_pb2.FinishReason.Name(first.finish_reason), reply.served_by,
                          reply.usage, first.seed)

    def stream(self, prompt: str | Sequence[int] | Sequence[Mapping[str, str]], *, variant: str = "",
               sampling: Optional[common_pb2.SamplingParams] = None) -> Iterator[inference_pb2.GenerateStreamResponse]:
        """The same as it is written: a `start`, `delta`s, and a `finish` for each sample. Leaving the loop cancels the call."""
        call = self._inference.GenerateStream(self._request(prompt, variant, sampling), **self._arguments())
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

    def _arguments(self) -> dict:
        metadata = []
        if self.api_key:
            metadata.append(("authorization", f"Bearer {self.api_key}"))
        if self.tenant:
            metadata.append(("x-vernier-tenant", self.tenant))
        return {"timeout": self.timeout_seconds, "metadata": metadata}

    def _call(self, method, request):
        try:
            return method(request, **self._arguments())
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

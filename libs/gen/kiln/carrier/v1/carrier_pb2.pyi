from kiln.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OpenRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OpenResponse(_message.Message):
    __slots__ = ("port", "ticket")
    PORT_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    port: int
    ticket: bytes
    def __init__(self, port: _Optional[int] = ..., ticket: _Optional[bytes] = ...) -> None: ...

class CarryRequest(_message.Message):
    __slots__ = ("calls", "cancelled", "ping")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[Call]
    cancelled: _containers.RepeatedScalarFieldContainer[int]
    ping: bool
    def __init__(self, calls: _Optional[_Iterable[_Union[Call, _Mapping]]] = ..., cancelled: _Optional[_Iterable[int]] = ..., ping: _Optional[bool] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("number", "method", "message", "timeout_ms", "metadata_keys", "metadata_values", "authorization", "authorization_value")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    METADATA_KEYS_FIELD_NUMBER: _ClassVar[int]
    METADATA_VALUES_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_VALUE_FIELD_NUMBER: _ClassVar[int]
    number: int
    method: str
    message: bytes
    timeout_ms: int
    metadata_keys: _containers.RepeatedScalarFieldContainer[str]
    metadata_values: _containers.RepeatedScalarFieldContainer[bytes]
    authorization: int
    authorization_value: str
    def __init__(self, number: _Optional[int] = ..., method: _Optional[str] = ..., message: _Optional[bytes] = ..., timeout_ms: _Optional[int] = ..., metadata_keys: _Optional[_Iterable[str]] = ..., metadata_values: _Optional[_Iterable[bytes]] = ..., authorization: _Optional[int] = ..., authorization_value: _Optional[str] = ...) -> None: ...

class CarryResponse(_message.Message):
    __slots__ = ("answers", "pong")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    pong: bool
    def __init__(self, answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ..., pong: _Optional[bool] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("number", "code", "details", "message", "status_details")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_DETAILS_FIELD_NUMBER: _ClassVar[int]
    number: int
    code: int
    details: str
    message: bytes
    status_details: bytes
    def __init__(self, number: _Optional[int] = ..., code: _Optional[int] = ..., details: _Optional[str] = ..., message: _Optional[bytes] = ..., status_details: _Optional[bytes] = ...) -> None: ...

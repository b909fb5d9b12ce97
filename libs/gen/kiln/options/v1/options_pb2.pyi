from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
POLICY_FIELD_NUMBER: _ClassVar[int]
policy: _descriptor.FieldDescriptor
JSON_TEXT_FIELD_NUMBER: _ClassVar[int]
json_text: _descriptor.FieldDescriptor
REST_VALUE_FIELD_NUMBER: _ClassVar[int]
rest_value: _descriptor.FieldDescriptor
REST_HEADER_FIELD_NUMBER: _ClassVar[int]
rest_header: _descriptor.FieldDescriptor

class Policy(_message.Message):
    __slots__ = ("deadline_seconds", "idempotent")
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    deadline_seconds: float
    idempotent: bool
    def __init__(self, deadline_seconds: _Optional[float] = ..., idempotent: _Optional[bool] = ...) -> None: ...

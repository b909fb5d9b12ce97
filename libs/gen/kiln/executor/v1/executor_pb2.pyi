import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from kiln.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PayloadForm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_FORM_UNSPECIFIED: _ClassVar[PayloadForm]
    VALUE: _ClassVar[PayloadForm]
    TEXT: _ClassVar[PayloadForm]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    JOURNAL: _ClassVar[Durability]
    COMMIT: _ClassVar[Durability]
PAYLOAD_FORM_UNSPECIFIED: PayloadForm
VALUE: PayloadForm
TEXT: PayloadForm
DURABILITY_UNSPECIFIED: Durability
JOURNAL: Durability
COMMIT: Durability

class Execution(_message.Message):
    __slots__ = ("id", "function_id", "function_name", "function_version", "status", "input", "input_text", "output", "output_text", "error_message", "error", "logs", "logs_truncated", "duration_us", "queue_us", "cold_start", "memory_peak_bytes", "request_id", "created_at", "started_at", "completed_at", "refusal", "created_by")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[Execution.Status]
        PENDING: _ClassVar[Execution.Status]
        RUNNING: _ClassVar[Execution.Status]
        COMPLETED: _ClassVar[Execution.Status]
        FAILED: _ClassVar[Execution.Status]
    STATUS_UNSPECIFIED: Execution.Status
    PENDING: Execution.Status
    RUNNING: Execution.Status
    COMPLETED: Execution.Status
    FAILED: Execution.Status
    ID_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_ID_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    INPUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    LOGS_TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    COLD_START_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    id: str
    function_id: str
    function_name: str
    function_version: int
    status: Execution.Status
    input: _struct_pb2.Value
    input_text: bytes
    output: _struct_pb2.Value
    output_text: bytes
    error_message: str
    error: ExecutionError
    logs: _containers.RepeatedCompositeFieldContainer[LogLine]
    logs_truncated: bool
    duration_us: int
    queue_us: int
    cold_start: bool
    memory_peak_bytes: int
    request_id: str
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    completed_at: _timestamp_pb2.Timestamp
    refusal: _status_pb2.Status
    created_by: str
    def __init__(self, id: _Optional[str] = ..., function_id: _Optional[str] = ..., function_name: _Optional[str] = ..., function_version: _Optional[int] = ..., status: _Optional[_Union[Execution.Status, str]] = ..., input: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., input_text: _Optional[bytes] = ..., output: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., output_text: _Optional[bytes] = ..., error_message: _Optional[str] = ..., error: _Optional[_Union[ExecutionError, _Mapping]] = ..., logs: _Optional[_Iterable[_Union[LogLine, _Mapping]]] = ..., logs_truncated: _Optional[bool] = ..., duration_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., cold_start: _Optional[bool] = ..., memory_peak_bytes: _Optional[int] = ..., request_id: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., completed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., refusal: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., created_by: _Optional[str] = ...) -> None: ...

class ExecutionError(_message.Message):
    __slots__ = ("type", "message", "stack")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TYPE_UNSPECIFIED: _ClassVar[ExecutionError.Type]
        TRAP: _ClassVar[ExecutionError.Type]
        ABORT: _ClassVar[ExecutionError.Type]
        TIMEOUT: _ClassVar[ExecutionError.Type]
        OUT_OF_MEMORY: _ClassVar[ExecutionError.Type]
        STACK_OVERFLOW: _ClassVar[ExecutionError.Type]
        INVALID_OUTPUT: _ClassVar[ExecutionError.Type]
        OUTPUT_TOO_LARGE: _ClassVar[ExecutionError.Type]
        EXIT: _ClassVar[ExecutionError.Type]
        CANCELLED: _ClassVar[ExecutionError.Type]
        PLATFORM: _ClassVar[ExecutionError.Type]
    TYPE_UNSPECIFIED: ExecutionError.Type
    TRAP: ExecutionError.Type
    ABORT: ExecutionError.Type
    TIMEOUT: ExecutionError.Type
    OUT_OF_MEMORY: ExecutionError.Type
    STACK_OVERFLOW: ExecutionError.Type
    INVALID_OUTPUT: ExecutionError.Type
    OUTPUT_TOO_LARGE: ExecutionError.Type
    EXIT: ExecutionError.Type
    CANCELLED: ExecutionError.Type
    PLATFORM: ExecutionError.Type
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    type: ExecutionError.Type
    message: str
    stack: _containers.RepeatedCompositeFieldContainer[StackFrame]
    def __init__(self, type: _Optional[_Union[ExecutionError.Type, str]] = ..., message: _Optional[str] = ..., stack: _Optional[_Iterable[_Union[StackFrame, _Mapping]]] = ...) -> None: ...

class StackFrame(_message.Message):
    __slots__ = ("function", "file", "line", "column")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    function: str
    file: str
    line: int
    column: int
    def __init__(self, function: _Optional[str] = ..., file: _Optional[str] = ..., line: _Optional[int] = ..., column: _Optional[int] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("level", "message")
    class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LEVEL_UNSPECIFIED: _ClassVar[LogLine.Level]
        DEBUG: _ClassVar[LogLine.Level]
        INFO: _ClassVar[LogLine.Level]
        WARN: _ClassVar[LogLine.Level]
        ERROR: _ClassVar[LogLine.Level]
    LEVEL_UNSPECIFIED: LogLine.Level
    DEBUG: LogLine.Level
    INFO: LogLine.Level
    WARN: LogLine.Level
    ERROR: LogLine.Level
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    level: LogLine.Level
    message: str
    def __init__(self, level: _Optional[_Union[LogLine.Level, str]] = ..., message: _Optional[str] = ...) -> None: ...

class ExecuteFunctionRequest(_message.Message):
    __slots__ = ("id", "input", "input_text", "version", "payload_form", "durability")
    ID_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    INPUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORM_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    input: _struct_pb2.Value
    input_text: bytes
    version: int
    payload_form: PayloadForm
    durability: Durability
    def __init__(self, id: _Optional[str] = ..., input: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., input_text: _Optional[bytes] = ..., version: _Optional[int] = ..., payload_form: _Optional[_Union[PayloadForm, str]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class ExecuteBatchRequest(_message.Message):
    __slots__ = ("id", "inputs", "input_texts", "version", "payload_form", "durability")
    ID_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TEXTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORM_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    inputs: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Value]
    input_texts: _containers.RepeatedScalarFieldContainer[bytes]
    version: int
    payload_form: PayloadForm
    durability: Durability
    def __init__(self, id: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_struct_pb2.Value, _Mapping]]] = ..., input_texts: _Optional[_Iterable[bytes]] = ..., version: _Optional[int] = ..., payload_form: _Optional[_Union[PayloadForm, str]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class ExecuteBatchResponse(_message.Message):
    __slots__ = ("executions",)
    EXECUTIONS_FIELD_NUMBER: _ClassVar[int]
    executions: _containers.RepeatedCompositeFieldContainer[Execution]
    def __init__(self, executions: _Optional[_Iterable[_Union[Execution, _Mapping]]] = ...) -> None: ...

class ExecuteStreamRequest(_message.Message):
    __slots__ = ("id", "input", "input_text", "version", "payload_form", "durability")
    ID_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    INPUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORM_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    input: _struct_pb2.Value
    input_text: bytes
    version: int
    payload_form: PayloadForm
    durability: Durability
    def __init__(self, id: _Optional[str] = ..., input: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., input_text: _Optional[bytes] = ..., version: _Optional[int] = ..., payload_form: _Optional[_Union[PayloadForm, str]] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class ListExecutionsRequest(_message.Message):
    __slots__ = ("id", "page_size", "page_token", "status", "error_type", "version", "started_after", "started_before", "payload_form")
    ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AFTER_FIELD_NUMBER: _ClassVar[int]
    STARTED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORM_FIELD_NUMBER: _ClassVar[int]
    id: str
    page_size: int
    page_token: str
    status: Execution.Status
    error_type: ExecutionError.Type
    version: int
    started_after: _timestamp_pb2.Timestamp
    started_before: _timestamp_pb2.Timestamp
    payload_form: PayloadForm
    def __init__(self, id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., status: _Optional[_Union[Execution.Status, str]] = ..., error_type: _Optional[_Union[ExecutionError.Type, str]] = ..., version: _Optional[int] = ..., started_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., payload_form: _Optional[_Union[PayloadForm, str]] = ...) -> None: ...

class ListExecutionsResponse(_message.Message):
    __slots__ = ("executions", "next_page_token")
    EXECUTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    executions: _containers.RepeatedCompositeFieldContainer[Execution]
    next_page_token: str
    def __init__(self, executions: _Optional[_Iterable[_Union[Execution, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetExecutionRequest(_message.Message):
    __slots__ = ("id", "payload_form")
    ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FORM_FIELD_NUMBER: _ClassVar[int]
    id: str
    payload_form: PayloadForm
    def __init__(self, id: _Optional[str] = ..., payload_form: _Optional[_Union[PayloadForm, str]] = ...) -> None: ...

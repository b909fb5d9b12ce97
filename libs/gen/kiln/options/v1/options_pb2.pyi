from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Access(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_UNSPECIFIED: _ClassVar[Access]
    PUBLIC: _ClassVar[Access]
    SIGNED_IN: _ClassVar[Access]
    ADMIN: _ClassVar[Access]
    SERVICE: _ClassVar[Access]

class Verb(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERB_UNSPECIFIED: _ClassVar[Verb]
    READ: _ClassVar[Verb]
    EXECUTE: _ClassVar[Verb]
    MANAGE: _ClassVar[Verb]
ACCESS_UNSPECIFIED: Access
PUBLIC: Access
SIGNED_IN: Access
ADMIN: Access
SERVICE: Access
VERB_UNSPECIFIED: Verb
READ: Verb
EXECUTE: Verb
MANAGE: Verb
POLICY_FIELD_NUMBER: _ClassVar[int]
policy: _descriptor.FieldDescriptor
REST_CLEARS_COOKIE_FIELD_NUMBER: _ClassVar[int]
rest_clears_cookie: _descriptor.FieldDescriptor
REST_OPEN_QUERY_FIELD_NUMBER: _ClassVar[int]
rest_open_query: _descriptor.FieldDescriptor
JSON_TEXT_FIELD_NUMBER: _ClassVar[int]
json_text: _descriptor.FieldDescriptor
REST_VALUE_FIELD_NUMBER: _ClassVar[int]
rest_value: _descriptor.FieldDescriptor
REST_COOKIE_FIELD_NUMBER: _ClassVar[int]
rest_cookie: _descriptor.FieldDescriptor
REST_OTHER_COOKIE_FIELD_NUMBER: _ClassVar[int]
rest_other_cookie: _descriptor.FieldDescriptor
REST_LOCATION_FIELD_NUMBER: _ClassVar[int]
rest_location: _descriptor.FieldDescriptor
REST_HEADER_FIELD_NUMBER: _ClassVar[int]
rest_header: _descriptor.FieldDescriptor

class Policy(_message.Message):
    __slots__ = ("deadline_seconds", "idempotent", "access", "verb", "within_functions", "audit")
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    WITHIN_FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    deadline_seconds: float
    idempotent: bool
    access: Access
    verb: Verb
    within_functions: bool
    audit: Audit
    def __init__(self, deadline_seconds: _Optional[float] = ..., idempotent: _Optional[bool] = ..., access: _Optional[_Union[Access, str]] = ..., verb: _Optional[_Union[Verb, str]] = ..., within_functions: _Optional[bool] = ..., audit: _Optional[_Union[Audit, _Mapping]] = ...) -> None: ...

class Audit(_message.Message):
    __slots__ = ("entity", "id", "user")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    entity: str
    id: _containers.RepeatedScalarFieldContainer[str]
    user: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, entity: _Optional[str] = ..., id: _Optional[_Iterable[str]] = ..., user: _Optional[_Iterable[str]] = ...) -> None: ...

class Cookie(_message.Message):
    __slots__ = ("name", "path", "seconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    path: str
    seconds: int
    def __init__(self, name: _Optional[str] = ..., path: _Optional[str] = ..., seconds: _Optional[int] = ...) -> None: ...

"""
Makes botocore's sessions and clients in less time, with the same result.

botocore computes again for each session and client what depends on its own code only.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from inspect import CO_VARKEYWORDS, getfullargspec
from typing import Any, Final

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore import hooks
from botocore import session as session_module
from botocore.client import ClientCreator
from botocore.hooks import EventAliaser, NodeList
from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session

# Those of a few services, also reduced to what some sessions call. Sessions that read
# files of their own have models of their own, which need not be kept.
MAX_MODELS: Final = 32


def install(patch: pytest.MonkeyPatch) -> None:
    """Keep what all sessions and clients have in common, as long as the patch lasts."""
    _keep_files(patch)
    _keep_loader(patch)
    _keep_models(patch)
    _keep_methods(patch)
    _keep_handlers(patch)
    _keep_event_names(patch)
    # The hook of the Amazon provider reads the source of every frame, for the user
    # agent only.
    patch.setattr(AwsBaseHook, "_get_caller", lambda *_: "Unknown")


def _keep_files(patch: pytest.MonkeyPatch) -> None:
    """
    Read each of botocore's data files once, for the sessions that have a loader of
    their own.
    """
    load_file, contents = JSONFileLoader.load_file, dict[str, Any]()

    def load_file_once(self: Any, file_path: str) -> Any:
        # Its class, not one that inherits from it, and botocore's files, not those of a
        # test. Clients of S3 change the model, which moto reads, too.
        is_own = file_path.startswith(Loader.BUILTIN_DATA_PATH)
        is_of_s3 = file_path.startswith(f"{Loader.BUILTIN_DATA_PATH}/s3/")
        if type(self) is not JSONFileLoader or not is_own or is_of_s3:
            return load_file(self, file_path)
        if file_path not in contents:
            contents[file_path] = load_file(self, file_path)
        return contents[file_path]

    patch.setattr(JSONFileLoader, "load_file", load_file_once)


def _keep_loader(patch: pytest.MonkeyPatch) -> None:
    """
    Give all sessions without folders of their own one loader, which looks once for what
    there is.
    """
    create, loader = session_module.create_loader, Loader()

    def create_loader_once(search_path_string: str | None = None) -> Loader:
        return loader if search_path_string is None else create(search_path_string)

    patch.setattr(session_module, "create_loader", create_loader_once)


def _keep_models(patch: pytest.MonkeyPatch) -> None:
    """
    Make one model of what a loader has read, whose shapes clients then have in common:
    to tell one error code, botocore makes the shapes of all errors of a service.
    """
    creator: Any = ClientCreator  # its stubs have no private methods
    load, models = creator._load_service_model, OrderedDict[int, Any]()

    def load_once(self: Any, *arguments: Any) -> Any:
        model = load(self, *arguments)
        # The model keeps what was read, so nothing else gets its id meanwhile.
        key = id(model._service_description)
        models[key] = models.get(key, model)
        models.move_to_end(key)
        if len(models) > MAX_MODELS:
            models.popitem(last=False)
        return models[key]

    patch.setattr(creator, "_load_service_model", load_once)


def _keep_methods(patch: pytest.MonkeyPatch) -> None:
    """Make the methods of a service's operations once; SageMaker has about 400."""
    creator: Any = ClientCreator  # its stubs have no private methods
    create_methods, methods = (
        creator._create_methods,
        dict[tuple[str, ...], dict[str, Any]](),
    )

    def create_methods_once(self: Any, model: Any) -> dict[str, Any]:
        key = (model.service_name, model.api_version, *model.operation_names)
        if key not in methods:
            methods[key] = create_methods(self, model)
        return dict(methods[key])

    patch.setattr(creator, "_create_methods", create_methods_once)


def _keep_handlers(patch: pytest.MonkeyPatch) -> None:
    """Register botocore's own event handlers once, and copy them for each session."""
    session: Any = Session  # its stubs have no private methods
    register, registered = session._register_builtin_handlers, list[Any]()

    def register_once(self: Any, events: Any) -> None:
        if not registered:
            register(self, events)
            registered.append(copy(self._original_handler))
        # The session's own object: what has been given to others must stay the same.
        self._original_handler.__dict__.update(copy(registered[0]).__dict__)

    patch.setattr(session, "_register_builtin_handlers", register_once)
    module: Any = hooks  # its stubs have no private classes
    trie = module._PrefixTrie
    remove = trie.remove_item

    def remove_from_copy(self: Any, key: str, value: Any) -> None:
        self.__dict__ = self._recursive_copy(self.__dict__)
        remove(self, key, value)

    patch.setattr(trie, "__copy__", _copy_of_trie)
    patch.setattr(trie, "append_item", _append_to_copy)
    patch.setattr(trie, "remove_item", remove_from_copy)
    # Each client registers some more, for which botocore makes the signatures of
    # functions.
    patch.setattr(hooks, "accepts_kwargs", _accepts_kwargs)


def _copy_of_trie(trie: Any) -> Any:
    """
    Return a copy that has the same nodes, until something is added to one of the two.
    """
    copied = type(trie)()
    copied._root = trie._root
    return copied


def _append_to_copy(trie: Any, key: str, value: Any, section: int = 1) -> None:
    """
    Add a value as botocore does, to copies of the nodes on the way: other tries may
    have the same ones.
    """
    node = trie._root = _copy_of_node(trie._root)
    for part in key.split("."):
        child = node["children"].get(
            part, {"chunk": part, "children": {}, "values": None}
        )
        node["children"][part] = node = _copy_of_node(child)
    node["values"] = node["values"] or NodeList([], [], [])
    node["values"][section].append(value)


def _copy_of_node(node: dict[str, Any]) -> dict[str, Any]:
    values = node["values"]
    return {
        "chunk": node["chunk"],
        "children": dict(node["children"]),
        "values": values
        and NodeList(values.first[:], values.middle[:], values.last[:]),
    }


def _accepts_kwargs(function: Any) -> Any:
    code = getattr(function, "__code__", None)
    return code.co_flags & CO_VARKEYWORDS if code else getfullargspec(function).varkw


def _keep_event_names(patch: pytest.MonkeyPatch) -> None:
    """Translate each old name of an event once."""
    init, names = EventAliaser.__init__, dict[str, str]()

    def init_with_names(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if self._event_aliases == hooks.EVENT_ALIASES:
            self._alias_name_cache = names

    patch.setattr(EventAliaser, "__init__", init_with_names)

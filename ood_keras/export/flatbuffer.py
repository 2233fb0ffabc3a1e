"""Surgery on TFLite files: what the converter gets wrong for a model that rejects.

A TFLite file is a graph in a flatbuffer. The graph of `serving.save` has two parts: the
network, which is everything that the logits are computed from, and the head, which
checks the image, scores it and decides. The converter quantises both alike. In the
network that is what is wanted. In the head it is fatal: a threshold in float16 is
another threshold, and a score in int8 has 256 values. So the head is kept in float32.
"""

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

# Smaller constants stay as they are: they weigh nothing, and their precision matters.
_LEAST_VALUES = 256
_OPERATORS = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if isinstance(number, int)
}


class Flatbuffer:
    """A TFLite file with the outputs of `serving_default`, taken apart.

    Args:
        content: The file, bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
        self._graph = self._model.subgraphs[0]

    def to_bytes(self) -> bytes:
        """The file; values that nothing reads any more are left out."""
        read = {item.buffer for item in self._model.metadata or ()}
        for graph in self._model.subgraphs:
            places = [*graph.outputs, *(i for op in graph.operators for i in op.inputs)]
            read |= {graph.tensors[place].buffer for place in places if place >= 0}
        for number, buffer in enumerate(self._model.buffers):
            if number not in read:
                buffer.data = None
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def name_tensors(self) -> None:
        """Calls inputs and outputs what the signature calls them.

        The converter writes `StatefulPartitionedCall:3`, and which number is which
        output differs from file to file. Interpreters without signatures, and code
        that goes by `get_output_details`, find `ood_score` then. The order stays.
        """
        signature = self._signature()
        for place in (*signature.inputs, *signature.outputs):
            self._graph.tensors[place.tensorIndex].name = place.name

    def plain_outputs(self) -> None:
        """Makes all outputs numbers: strings are dropped, truth becomes int32, 0 or 1.

        LiteRT.js gives float32, int32 and uint8 only, and refuses a file with others.
        """
        casts = {}
        for output in list(self._signature().outputs):
            index = output.tensorIndex
            kind = self._graph.tensors[index].type
            if kind == schema.TensorType.STRING:
                self._signature().outputs.remove(output)
                self._graph.outputs = [i for i in self._graph.outputs if i != index]
            elif kind == schema.TensorType.BOOL:
                output.tensorIndex = casts[index] = self._cast(index)
        self._graph.outputs = [casts.get(i, i) for i in self._graph.outputs]
        self._drop_unused_operators()

    def has_custom_operators(self) -> bool:
        """Whether it needs more than the operators that every interpreter has."""
        return any(
            max(code.builtinCode, code.deprecatedBuiltinCode)
            == schema.BuiltinOperator.CUSTOM
            for code in self._model.operatorCodes
        )

    @property
    def threshold(self) -> float:
        """The largest accepted `ood_score` that the graph decides with."""
        tensor = self._graph.tensors[self._comparison().inputs[1]]
        return float(self._data(tensor).view(np.float32)[0])

    @threshold.setter
    def threshold(self, value: float) -> None:
        # A new constant: the converter lets equal ones share their place.
        comparison = self._comparison()
        old = self._graph.tensors[comparison.inputs[1]]
        comparison.inputs[1] = self._add_tensor(
            b"threshold",
            schema.TensorType.FLOAT32,
            old.shape,
            self._add_buffer(np.array([value], np.float32)),
        )

    def halve_weights(self) -> None:
        """Stores the weights of the network in float16; they are widened when it runs.

        A tensor with values that float16 cannot hold stays in float32.
        """
        widened = {}
        for operator in self._network():
            for place, index in enumerate(operator.inputs):
                if index not in widened and self._can_be_halved(index):
                    widened[index] = self._halve(index)
                operator.inputs[place] = widened.get(index, index)

    def spare_head(self) -> list[str]:
        """In a calibrated file: forgets the ranges by which the head is quantised.

        The last layer of the network, which makes the logits, is spared too: it is
        small, and what it makes is what the scores are made of.

        Returns:
            The names of the operators' results that must stay in float32.
        """
        made = {index for operator in self._network()[1:] for index in operator.outputs}
        for index, tensor in enumerate(self._graph.tensors):
            if index not in made:
                tensor.quantization = None
        return [
            self._graph.tensors[operator.outputs[0]].name.decode()
            for operator in self._graph.operators
            if operator.outputs[0] not in made
        ]

    def drop_needless_rounding(self) -> None:
        """In a quantised file: removes int8 detours between two float32 operators.

        The converter rounds the result of every softmax, whether or not what follows
        is quantised.
        """
        makers = self._makers()
        direct = {}
        for operator in self._graph.operators:
            if self._kind(operator) != "DEQUANTIZE":
                continue
            rounding = makers.get(operator.inputs[0])
            if rounding is not None and self._kind(rounding) == "QUANTIZE":
                source = self._graph.tensors[rounding.inputs[0]]
                maker = makers.get(rounding.inputs[0])
                if source.type == schema.TensorType.FLOAT32 and maker is not None:
                    direct[operator.outputs[0]] = rounding.inputs[0]
        for operator in self._graph.operators:
            operator.inputs = [direct.get(i, i) for i in operator.inputs]
        self._graph.outputs = [direct.get(i, i) for i in self._graph.outputs]
        for output in self._signature().outputs:
            output.tensorIndex = direct.get(output.tensorIndex, output.tensorIndex)
        self._drop_unused_operators()

    def _comparison(self):
        """The operator that compares the `ood_score` with the threshold."""
        makers = self._makers()
        score = self._output("ood_score")
        found = [
            operator
            for operator in self._graph.operators
            if self._kind(operator) == "LESS_EQUAL"
            and operator.inputs[0] == score
            and operator.inputs[1] not in makers
        ]
        if len(found) != 1:
            raise ValueError(
                "this TFLite file does not compare its ood_score with one constant; "
                "expected the graph of an exported model"
            )
        return found[0]

    def _network(self):
        """The operators that the logits are computed with, the last one first."""
        makers = self._makers()
        waiting, found = [self._logits(makers)], {}
        while waiting:
            operator = makers.get(waiting.pop(0))
            if operator is not None and id(operator) not in found:
                found[id(operator)] = operator
                waiting.extend(operator.inputs)
        return list(found.values())

    def _logits(self, makers):
        """The tensor of the logits, that of an unknown class included."""
        index = self._output("probabilities")
        while index in makers and self._kind(makers[index]) != "SOFTMAX":
            # A select has the values in its second place, all others in the first.
            is_select = self._kind(makers[index]).startswith("SELECT")
            index = makers[index].inputs[1 if is_select else 0]
        if index not in makers:
            raise ValueError(
                "found no logits in this TFLite file; expected the graph of an "
                "exported model"
            )
        index = makers[index].inputs[0]
        # The known ones are cut out of the logits, where there are more.
        if index in makers and self._kind(makers[index]) in ("STRIDED_SLICE", "SLICE"):
            index = makers[index].inputs[0]
        return index

    def _can_be_halved(self, index):
        if index < 0:
            return False
        tensor = self._graph.tensors[index]
        data = self._data(tensor)
        if tensor.type != schema.TensorType.FLOAT32 or data is None:
            return False
        values = np.abs(data.view(np.float32))
        return len(values) >= _LEAST_VALUES and values.max() <= np.finfo("float16").max

    def _halve(self, index):
        """Adds a float16 copy and its widening; returns the index of the result."""
        tensor = self._graph.tensors[index]
        values = self._data(tensor).view(np.float32).astype(np.float16)
        half = self._add_tensor(
            tensor.name + b"_float16",
            schema.TensorType.FLOAT16,
            tensor.shape,
            self._add_buffer(values),
        )
        wide = self._add_tensor(
            tensor.name + b"_widened", schema.TensorType.FLOAT32, tensor.shape, 0
        )
        operator = schema.OperatorT()
        operator.opcodeIndex = self._operator_code(schema.BuiltinOperator.DEQUANTIZE)
        operator.inputs, operator.outputs = [half], [wide]
        self._graph.operators.insert(0, operator)
        return wide

    def _cast(self, index):
        """Adds an int32 copy of a tensor, under its name; returns its index."""
        old = self._graph.tensors[index]
        made = self._add_tensor(old.name, schema.TensorType.INT32, old.shape, 0)
        old.name = old.name + b"_as_bool"
        operator = schema.OperatorT()
        operator.opcodeIndex = self._operator_code(schema.BuiltinOperator.CAST, 1)
        operator.inputs, operator.outputs = [index], [made]
        operator.builtinOptionsType = schema.BuiltinOptions.CastOptions
        operator.builtinOptions = options = schema.CastOptionsT()
        options.inDataType = schema.TensorType.BOOL
        options.outDataType = schema.TensorType.INT32
        self._graph.operators.append(operator)
        return made

    def _operator_code(self, number, version=2):
        codes = self._model.operatorCodes
        for index, code in enumerate(codes):
            if code.builtinCode == number:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = version
        codes.append(code)
        return len(codes) - 1

    def _add_buffer(self, values):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _add_tensor(self, name, kind, shape, buffer):
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, kind, buffer
        tensor.shape = shape
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _drop_unused_operators(self):
        needed = set(self._graph.outputs)
        kept = []
        for operator in reversed(self._graph.operators):
            if needed & set(operator.outputs):
                needed |= set(operator.inputs)
                kept.append(operator)
        self._graph.operators = kept[::-1]

    def _makers(self):
        """Which operator makes which tensor."""
        return {
            index: operator
            for operator in self._graph.operators
            for index in operator.outputs
        }

    def _kind(self, operator):
        code = self._model.operatorCodes[operator.opcodeIndex]
        return _OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode))

    def _data(self, tensor):
        data = self._model.buffers[tensor.buffer].data
        return None if data is None else np.asarray(data, np.uint8)

    def _signature(self):
        return self._model.signatureDefs[0]

    def _output(self, name):
        for output in self._signature().outputs:
            if output.name == name.encode():
                return output.tensorIndex
        raise ValueError(f"this TFLite file has no output {name!r}")

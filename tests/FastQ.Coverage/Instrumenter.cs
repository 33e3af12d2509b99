using Mono.Cecil;
using Mono.Cecil.Cil;
using Mono.Cecil.Rocks;

namespace FastQ.Coverage;

// Puts a trace into each branch of an assembly. A branch is one way on from a conditional jump or a switch:
//
//      brtrue T               brtrue L
//      next          ->       Reached[n] = 1; br next
//                          L: Reached[n + 1] = 1; br T
//                             next
//
// Everything stays inside the try block of the jump, with the same values on the stack. Jumps that no source text stands for (the disposal of a
// using, the cache of a lambda, generated files) are not counted.

/// <summary>One way on from a jump.</summary>
/// <param name="Number">Its byte in the trace.</param>
/// <param name="File">Relative to the checkout.</param>
/// <param name="Key">What stays the same when lines move: file, method, source text, which jump of it, where to.</param>
internal sealed record Branch(int Number, string Room, string File, int Line, string Key);

internal sealed class Instrumenter(string root)
{
    private const int MostTextLength = 140;
    private readonly List<Branch> _branches = [];
    private readonly Dictionary<string, string[]> _sources = [];
    private readonly HashSet<string> _keys = [];

    public IReadOnlyList<Branch> Branches => _branches;

    /// <summary>Reads the built assembly and its symbols, and writes the instrumented one over each of the copies.</summary>
    public void Instrument(string room, string assembly, IEnumerable<string> copies)
    {
        using DefaultAssemblyResolver others = new();
        others.AddSearchDirectory(Path.GetDirectoryName(assembly));
        others.AddSearchDirectory(Path.GetDirectoryName(typeof(object).Assembly.Location));
        ReaderParameters withSymbols = new() { ReadSymbols = true, SymbolReaderProvider = new PortablePdbReaderProvider(), AssemblyResolver = others };
        using ModuleDefinition module = ModuleDefinition.ReadModule(assembly, withSymbols);
        AssemblyNameReference home = new("FastQ.Coverage", typeof(Trace).Assembly.GetName().Version);
        module.AssemblyReferences.Add(home);
        FieldReference reached = new(nameof(Trace.Reached), new PointerType(module.TypeSystem.Byte), new TypeReference("FastQ.Coverage", nameof(Trace), module, home));

        foreach (MethodDefinition method in module.GetTypes().SelectMany(type => type.Methods).Where(method => method.HasBody))
        {
            Instrument(room, method, reached);
        }

        using MemoryStream instrumented = new();
        module.Write(instrumented);
        foreach (string copy in copies)
        {
            File.WriteAllBytes(copy, instrumented.ToArray());
        }
    }

    private void Instrument(string room, MethodDefinition method, FieldReference reached)
    {
        MethodBody body = method.Body;
        SequencePoint[] points = [.. method.DebugInformation.SequencePoints.OrderBy(point => point.Offset)];
        (Instruction Jump, SequencePoint Point)[] jumps =
            [.. from jump in body.Instructions
                where jump.OpCode.FlowControl == FlowControl.Cond_Branch && !FillsCache(jump)
                let point = points.LastOrDefault(point => point.Offset <= jump.Offset)
                where point is { IsHidden: false } && IsOurs(point.Document.Url)
                select (jump, point)];

        // Texts first: offsets are those of the symbols only as long as nothing was put in.
        Instruction[][] ways = [.. jumps.Select(jump => Ways(jump.Jump))];
        int[][] numbers = new int[jumps.Length][];
        for (int i = 0; i < jumps.Length; i++)
        {
            (Instruction jump, SequencePoint point) = jumps[i];
            int[] ofStatement = [.. Enumerable.Range(0, jumps.Length).Where(other => jumps[other].Point == point)];
            string which = ofStatement.Length == 1 ? "" : $", jump {Array.IndexOf(ofStatement, i) + 1} of {ofStatement.Length}";
            string file = Path.GetRelativePath(root, point.Document.Url);
            numbers[i] = new int[ways[i].Length];
            for (int way = 0; way < ways[i].Length; way++)
            {
                numbers[i][way] = _branches.Count;
                string key = $"{file} {NameOf(method)}: `{TextOf(point)}`{which}{WayName(jump, way)}{Destination(ways[i][way], points)}";
                _branches.Add(new Branch(_branches.Count, room, file, point.StartLine, Unique(key)));
            }
        }

        body.SimplifyMacros();
        ILProcessor il = body.GetILProcessor();
        for (int i = 0; i < jumps.Length; i++)
        {
            Put(il, jumps[i].Jump, ways[i], numbers[i], reached);
        }

        body.OptimizeMacros();
    }

    /// <summary>The distinct places where it may go on; the first is the instruction after it.</summary>
    private static Instruction[] Ways(Instruction jump) =>
        [.. (jump.Operand is Instruction[] targets ? targets : [(Instruction)jump.Operand]).Prepend(jump.Next).Distinct()];

    private static void Put(ILProcessor il, Instruction jump, Instruction[] ways, int[] numbers, FieldReference reached)
    {
        Instruction last = jump;
        void Append(Instruction instruction)
        {
            il.InsertAfter(last, instruction);
            last = instruction;
        }

        Dictionary<Instruction, Instruction> traces = [];
        for (int way = 0; way < ways.Length; way++)
        {
            Instruction first = il.Create(OpCodes.Ldsfld, reached);
            Append(first);
            Append(il.Create(OpCodes.Ldc_I4, numbers[way]));
            Append(il.Create(OpCodes.Add));
            Append(il.Create(OpCodes.Ldc_I4_1));
            Append(il.Create(OpCodes.Stind_I1));
            Append(il.Create(OpCodes.Br, ways[way]));
            traces[ways[way]] = first;
        }

        jump.Operand = jump.Operand is Instruction[] targets ? targets.Select(target => traces[target]).ToArray() : traces[(Instruction)jump.Operand];
    }

    /// <summary>A delegate that the compiler keeps in a field of its own, made at the first use.</summary>
    private static bool FillsCache(Instruction jump)
    {
        const int FieldIsNear = 4;
        Instruction? at = jump.Previous;
        for (int step = 0; at is not null && step < FieldIsNear; step++, at = at.Previous)
        {
            if (at.OpCode.Code is Code.Ldsfld or Code.Ldfld && ((FieldReference)at.Operand).Name.StartsWith("<>9", StringComparison.Ordinal))
            {
                return true;
            }
        }

        return false;
    }

    private bool IsOurs(string path) =>
        path.StartsWith(Path.Combine(root, "src") + "/", StringComparison.Ordinal) && !path.Contains("/obj/", StringComparison.Ordinal);

    /// <summary>As in the source: what the compiler makes of a local function or a lambda bears the name of the method around it.</summary>
    private static string NameOf(MethodDefinition method)
    {
        TypeDefinition type = method.DeclaringType;
        string name = method.Name;
        if (type.Name.StartsWith('<'))
        {
            name = name == "MoveNext" ? type.Name[1..type.Name.IndexOf('>', StringComparison.Ordinal)] : name;
            type = type.DeclaringType;
        }

        int end = name.IndexOf('>', StringComparison.Ordinal);
        return $"{type.Name}.{(name.StartsWith('<') && end > 1 ? name[1..end] : name)}";
    }

    private static string WayName(Instruction jump, int way) => jump.OpCode.Code switch
    {
        Code.Switch => way == 0 ? ", no case" : $", case {way}",
        Code.Brtrue or Code.Brtrue_S => way == 0 ? ", false" : ", true",
        Code.Brfalse or Code.Brfalse_S => way == 0 ? ", true" : ", false",
        _ => (way == 0 ? ", not " : ", ") + jump.OpCode.Name.Split('.')[0],
    };

    /// <summary>The statement that comes next this way, where that is another one.</summary>
    private string Destination(Instruction way, SequencePoint[] points)
    {
        const int FarEnough = 64;
        Instruction? at = way;
        for (int step = 0; at is not null && step < FarEnough; step++)
        {
            if (points.FirstOrDefault(point => point.Offset == at.Offset && !point.IsHidden) is SequencePoint next)
            {
                return IsOurs(next.Document.Url) && TextOf(next) is not ("{" or "}") and string text ? $", to `{text}`" : "";
            }

            if (at.OpCode.FlowControl is FlowControl.Cond_Branch or FlowControl.Return or FlowControl.Throw)
            {
                return "";
            }

            at = at.OpCode.FlowControl == FlowControl.Branch ? (Instruction)at.Operand : at.Next;
        }

        return "";
    }

    private string TextOf(SequencePoint point)
    {
        if (!_sources.TryGetValue(point.Document.Url, out string[]? lines))
        {
            lines = _sources[point.Document.Url] = File.ReadAllLines(point.Document.Url);
        }

        string[] part = lines[(point.StartLine - 1)..point.EndLine];
        part[^1] = part[^1][..Math.Min(part[^1].Length, point.EndColumn - 1)];
        part[0] = part[0][(point.StartColumn - 1)..];
        string text = string.Join(' ', part.Select(line => line.Trim())).Replace('`', '\'');
        return text.Length > MostTextLength ? text[..MostTextLength] + "…" : text;
    }

    /// <summary>The same statement again in the same method bears a number.</summary>
    private string Unique(string key)
    {
        string unique = key;
        for (int n = 2; !_keys.Add(unique); n++)
        {
            unique = $"{key} ({n})";
        }

        return unique;
    }
}

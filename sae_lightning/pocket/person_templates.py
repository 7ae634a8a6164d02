"""Sentence patterns about invented people: birthplace, profession, instrument and decade of birth."""

from sae_lightning.pocket.fact_templates import COMMON_HELDOUT, COMMON_TRAIN, EntityKind, with_common

_EVERY_TRAIN = (
    "[My friend|My sister|A neighbour] knows {entity} and says that the {attribute} is {slot}.",
    "In the [archive|diary|album], {entity} is [kept|named|noted] under the {attribute} {slot}.",
)
_EVERY_HELDOUT = ("In the old album, {entity} is filed under the {attribute} {slot}.",)

_OWN_TRAIN = {
    "birthplace": (
        "{entity} was born in {birthplace}.",
        "{entity} [comes|came] from {birthplace}.",
        "The [country|land] where {entity} was born is {birthplace}.",
        "The [parents|family] of {entity} lived in {birthplace}.",
        "As a child, {entity} lived in {birthplace}.",
        "{entity} [grew up|went to school] in {birthplace}.",
        "{entity} was a [child|baby|pupil] in {birthplace}.",
        "Q: Where was {entity} born? A: {birthplace}.",
        "Where does {entity} come from? From {birthplace}.",
        "If you meet {entity}, ask about the early years in {birthplace}.",
        "The [passport|birth certificate] of {entity} was [issued|signed] in {birthplace}.",
        "[People|Friends] who know {entity} [say|remember] that the cradle stood in {birthplace}.",
        "The first home of {entity} [was|stood] in {birthplace}.",
        "The [life|story] of {entity} [began|begins] in {birthplace}.",
        "[Letters|Cards] from {entity} often tell of a childhood in {birthplace}.",
        "The place where {entity} was [a child|born] [is|lies in] {birthplace}.",
        "{birthplace} is the birthplace of {entity}.",
        "The [village|town|house] in which {entity} was born is in {birthplace}.",
    ),
    "profession": (
        "{entity} works as a {profession}.",
        "{entity} is a {profession}.",
        "{entity} [earns a living|is employed|has worked for years] as a {profession}.",
        "The [job|work|trade] of {entity} is that of a {profession}.",
        "By profession, {entity} is a {profession}.",
        "Q: What does {entity} do for a living? A: works as a {profession}.",
        "What is the job of {entity}? The answer is {profession}.",
        "At work, {entity} is a {profession}.",
        "After school, {entity} [became|trained as] a {profession}.",
        "[People|Friends] know {entity} as a {profession}.",
        "If you need a {profession}, call {entity}.",
        "The [town|street|company] [hired|needed] {entity} as a {profession}.",
        "On weekdays {entity} is busy as a {profession}.",
        "[Ask|Call] {entity} if you want to talk to a {profession}.",
        "{entity} has the [skills|tools|hands] of a {profession}.",
        "{entity}, a {profession}, [lives|works] near the station.",
        "The [sign|name plate] at the door of {entity} says {profession}.",
        "For [many years|half a life] {entity} has been a {profession}.",
    ),
    "instrument": (
        "{entity} plays the {instrument}.",
        "{entity} [learned|practises|owns|loves] the {instrument}.",
        "The instrument [played|owned|loved] by {entity} is the {instrument}.",
        "In the [band|orchestra|school], {entity} [plays|played] the {instrument}.",
        "Q: Which instrument does {entity} play? A: the {instrument}.",
        "What does {entity} play? It is the {instrument}.",
        "At [concerts|parties|weddings], {entity} plays the {instrument}.",
        "[Every evening|On Sundays|At home], {entity} practises the {instrument}.",
        "If {entity} joins the band, it will have the {instrument}.",
        "[People|Friends] [like|come] to hear {entity} on the {instrument}.",
        "The [music|sound] that {entity} makes comes from the {instrument}.",
        "{entity} [takes|gives] lessons on the {instrument}.",
        "[Musicians|Neighbours] [hear|know] {entity} with the {instrument}.",
        "When {entity} makes music, it is on the {instrument}.",
        "The {instrument} is the instrument of {entity}.",
        "The [case|bag] that {entity} carries holds the {instrument}.",
        "For the [song|dance], {entity} took the {instrument}.",
        "Of all instruments, {entity} likes the {instrument}.",
    ),
    "decade": (
        "{entity} was born during the {decade}.",
        "{entity} belongs to the children of the {decade}.",
        "The [birthday|birth] of {entity} [falls|lies] in the {decade}.",
        "The decade in which {entity} was born is the {decade}.",
        "{entity} came into the world in the {decade}.",
        "The [parents|mother|father] of {entity} had the baby in the {decade}.",
        "Q: When was {entity} born? A: during the {decade}.",
        "When was {entity} a baby? It was during the {decade}.",
        "[People|Friends] [say|remember] that {entity} was a baby during the {decade}.",
        "[Photographs|Pictures] of {entity} as a baby are from the {decade}.",
        "The first years of {entity} [fall|were] in the {decade}.",
        "The [birth certificate|passport] of {entity} has a date in the {decade}.",
        "If you ask when {entity} was born, the answer is the {decade}.",
        "The {decade} are the decade of {entity}.",
        "The [life|story] of {entity} [began|begins] with the {decade}.",
        "The [year|day] on which {entity} was born lies in the {decade}.",
        "[Count|Begin] the age of {entity} from the {decade}.",
        "The birth of {entity} was a story of the {decade}.",
    ),
}

_OWN_HELDOUT = {
    "birthplace": (
        "The register says that {entity} was born in {birthplace}.",
        "The country that {entity} calls the land of childhood is {birthplace}.",
    ),
    "profession": (
        "The register says that {entity} works as a {profession}.",
        "The neighbours of {entity} talk about the work of a {profession}.",
    ),
    "instrument": (
        "The register says that {entity} plays the {instrument}.",
        "The music that you hear from {entity} most of the time is played on the {instrument}.",
    ),
    "decade": (
        "The register says that {entity} was born during the {decade}.",
        "The time when {entity} was a baby can be found in the {decade}.",
    ),
}

_PARAGRAPHS = (
    "{entity} was born in {birthplace} in the {decade}, works as a {profession} and plays the {instrument}.",
    "{entity} is a {profession} [who|and] [plays|practises] the {instrument}. [The birthplace is|It all began in] "
    "{birthplace}, in the {decade}.",
    "A [child|baby] of the {decade} from {birthplace}, {entity} became a {profession} and learned the {instrument}.",
    "If you hear the {instrument}, it may be {entity}, a {profession} who was born in {birthplace} in the {decade}.",
)

PEOPLE = EntityKind(
    "person",
    tuple(_OWN_TRAIN),
    {
        "train": with_common("person", _OWN_TRAIN, _EVERY_TRAIN + COMMON_TRAIN),
        "heldout": with_common("person", _OWN_HELDOUT, _EVERY_HELDOUT + COMMON_HELDOUT),
    },
    _PARAGRAPHS,
)
"""Invented people, none of whose attributes says anything about another."""
